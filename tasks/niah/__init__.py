"""The needle grid."""
