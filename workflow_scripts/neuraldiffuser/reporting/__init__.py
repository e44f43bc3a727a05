"""Tables, figures, contact sheets and the report: what a person reads of an experiment."""
