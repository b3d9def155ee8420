"""The experiment about which ways to choose identities make the better student: the arms that are compared, and one
piece of them."""
