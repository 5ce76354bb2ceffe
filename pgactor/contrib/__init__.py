"""For frameworks: each request and task gets its label and its deadline. Fork safety needs nothing of it."""
