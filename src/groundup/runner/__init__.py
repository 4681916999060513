"""The runner starts a stage; it never changes a result and never imports training code."""
