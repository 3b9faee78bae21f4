"""Evidence builders: from a bundle's records to the typed tables that checks ask for."""
