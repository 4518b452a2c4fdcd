"""CountXplain (MIDL 2025): the prototype stage and the projection of prototypes."""
