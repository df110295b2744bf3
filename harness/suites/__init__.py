"""Many runs and fits from one YAML file."""
