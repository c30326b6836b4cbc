"""The warehouse: every promise about loading, processing, deriving, and surviving."""
