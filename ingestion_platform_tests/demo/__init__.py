"""The example business: its files, its troubles, and the independent calculation over them."""
