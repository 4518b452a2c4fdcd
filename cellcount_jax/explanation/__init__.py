"""Why a counter says what it says: prototypes, faithfulness. Returns data, draws nothing."""
