"""A teacher: a larger model that words requests for planned calls, and chooses tools back to check them."""
