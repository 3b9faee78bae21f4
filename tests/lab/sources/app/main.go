// Command app is the site behind the ingress; as "app webhook" it is the policy that reviews its Ingress,
// a policy that has images pulled anew, and an extension of the API that holds nothing.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	up          = `{"status":"UP"}`
	down        = `{"status":"DOWN","components":{"redis":{"status":"DOWN"}}}`
)

// dialDependencies ends the program, as the driver of a real one would, when a database is out of reach.
func dialDependencies() {
	for _, address := range strings.Fields(os.Getenv("DEPENDS_ON")) {
		connection, err := net.DialTimeout("tcp", address, dialTimeout)
		if err != nil {
			log.Fatalf("com.mongodb.MongoTimeoutException: Timed out after %d ms while waiting to connect: %v",
				dialTimeout.Milliseconds(), err)
		}
		connection.Close()
	}
}

// setter answers POST by storing a value.
func setter(flag *atomic.Bool, value bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		flag.Store(value)
		w.WriteHeader(http.StatusNoContent)
	}
}

func site() {
	dialDependencies()
	hostname, _ := os.Hostname()
	var failing atomic.Bool
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s host=%s path=%s xff=%s\n",
			hostname, r.Host, r.URL.Path, r.Header.Get("X-Forwarded-For"))
	})
	http.HandleFunc("/actuator/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if failing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, down)
			return
		}
		fmt.Fprint(w, up)
	})
	http.HandleFunc("/actuator/fail", setter(&failing, true))
	http.HandleFunc("/actuator/mend", setter(&failing, false))
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// review is what is used of an admission.k8s.io/v1 AdmissionReview.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID    string `json:"uid"`
	Object pod    `json:"object"`
}

// pod is what is used of a Pod; of other objects, nothing is.
type pod struct {
	Spec struct {
		InitContainers []json.RawMessage `json:"initContainers"`
		Containers     []json.RawMessage `json:"containers"`
	} `json:"spec"`
}

type response struct {
	UID       string `json:"uid"`
	Allowed   bool   `json:"allowed"`
	PatchType string `json:"patchType,omitempty"`
	Patch     []byte `json:"patch,omitempty"`
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

// reviewer answers AdmissionReviews: everything is allowed, and changed as `patch` says, if there is one.
func reviewer(patch func(pod) []operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked review
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Request == nil {
			http.Error(w, "not an AdmissionReview", http.StatusBadRequest)
			return
		}
		answer := &response{UID: asked.Request.UID, Allowed: true}
		if patch != nil {
			answer.PatchType = "JSONPatch"
			answer.Patch, _ = json.Marshal(patch(asked.Request.Object))
		}
		writeJSON(w, review{APIVersion: asked.APIVersion, Kind: asked.Kind, Response: answer})
	}
}

// pullAlways has every container's image pulled anew, as the admission plugin AlwaysPullImages does.
func pullAlways(p pod) []operation {
	operations := []operation{}
	for list, containers := range map[string][]json.RawMessage{
		"initContainers": p.Spec.InitContainers,
		"containers":     p.Spec.Containers,
	} {
		for index := range containers {
			path := fmt.Sprintf("/spec/%s/%d/imagePullPolicy", list, index)
			operations = append(operations, operation{Op: "add", Path: path, Value: "Always"})
		}
	}
	return operations
}

// extension answers whoever asks what an aggregated API holds: this one holds nothing.
func extension(w http.ResponseWriter, r *http.Request) {
	group := strings.TrimPrefix(r.URL.Path, "/apis/")
	if strings.Count(group, "/") != 1 {
		http.NotFound(w, r)
		return
	}
	writeJSON(w, map[string]any{
		"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": []string{},
	})
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}

func webhook() {
	http.HandleFunc("/validate", reviewer(nil))
	http.HandleFunc("/mutate", reviewer(pullAlways))
	http.HandleFunc("/apis/", extension)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	log.Fatal(http.ListenAndServeTLS(":8443", "/etc/webhook/tls.crt", "/etc/webhook/tls.key", nil))
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "webhook" {
		webhook()
		return
	}
	site()
}
