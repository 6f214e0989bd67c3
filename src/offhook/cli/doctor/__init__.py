"""``offhook doctor``: looks at everything that makes calls fail, and says what, why it matters, and how to fix it."""
