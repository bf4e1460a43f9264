"""What the verbs share: console, options, JSON records, the table of verbs, lazy loading."""
