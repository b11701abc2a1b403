//! What is installed: units, roles, schemas and contracts. Files only; `tests/` reads them.
