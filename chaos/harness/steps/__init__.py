"""Steps that several scenarios share; an assertion in them is the scenario's verdict."""
