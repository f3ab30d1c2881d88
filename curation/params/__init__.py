"""The sections of params.yaml that hold the options of curation, one module each."""
