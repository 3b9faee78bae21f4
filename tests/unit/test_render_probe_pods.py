"""What ``images`` and ``cleanup`` print."""

from doctor.model.probe_pod import Choice, Fate, Leftover, NodeImages, Sweep
from doctor.model.verdict import Gap
from doctor.render.probe_pods import render_images, render_sweep

FIRST, SECOND = Choice("flannel:1", "flannel's"), Choice("busybox:1", "the kubelet lists it")


def test_nodes_that_are_alike_stand_together() -> None:
    items = (
        NodeImages("n0", (FIRST, SECOND)),
        NodeImages("n1", reason="it is not Ready"),
        NodeImages("n2", (FIRST, SECOND)),
        NodeImages("n3", (SECOND,)),
    )
    assert render_images(items) == (
        "n0, n2\n"
        "  flannel:1\n"
        "      flannel's\n"
        "  else busybox:1\n"
        "      the kubelet lists it\n"
        "n1\n"
        "  none: it is not Ready\n"
        "n3\n"
        "  busybox:1\n"
        "      the kubelet lists it\n"
    )


def test_a_thousand_nodes_are_one_line() -> None:
    text = render_images(NodeImages(f"n{i}", (FIRST,)) for i in range(1000))
    assert text.splitlines()[0] == "n0, n1, n2, n3, n4, n5, n6, n7 and 992 more"
    assert len(text.splitlines()) == 3


def test_no_nodes_and_what_could_not_be_read() -> None:
    assert render_images(()) == "there are no nodes\n"
    gap = Gap("api:pods", "forbidden")
    text = render_images([NodeImages("n0", (FIRST,))], [gap])
    assert text.splitlines()[-1] == "not read: api:pods: forbidden"


def test_what_became_of_each_thing_is_a_line() -> None:
    found = (
        Leftover("namespace wwwm-doctor-a", Fate.REMOVED, "with 3 pods"),
        Leftover("pod shop/wwwm-doctor-b", Fate.REMOVED),
        Leftover("namespace wwwm-doctor-c", Fate.LIVE, "its run is alive"),
    )
    assert render_sweep(Sweep(found, ("pods: forbidden",))) == (
        "namespace wwwm-doctor-a: removed: with 3 pods\n"
        "pod shop/wwwm-doctor-b: removed\n"
        "namespace wwwm-doctor-c: left alone: its run is alive\n"
        "not looked for: pods: forbidden\n"
    )
    assert render_sweep(Sweep()) == "nothing is left of any run\n"


def test_text_from_the_cluster_is_made_harmless() -> None:
    evil = "x\x1b[31m\ny"
    texts = (
        render_images([NodeImages(evil, (Choice(evil, evil),))], [Gap(evil, evil)]),
        render_images([NodeImages(evil, reason=evil)]),
        render_sweep(Sweep((Leftover(evil, Fate.STUCK, evil),), (evil,))),
    )
    for text in texts:
        assert all(line.isprintable() for line in text.split("\n"))
        assert "\\x1b[31m\\x0ay" in text
