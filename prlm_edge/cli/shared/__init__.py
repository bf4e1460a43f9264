"""What the verbs share: the table of verbs, loading one of them, options, console and progress."""
