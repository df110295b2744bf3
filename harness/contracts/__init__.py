"""What a method, task, recipe or report implements, receives and returns."""
