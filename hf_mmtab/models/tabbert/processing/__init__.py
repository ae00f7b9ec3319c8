"""How cells become ids: the column plan, what each kind of field learns, and the ids of a history."""
