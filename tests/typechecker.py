"""The run-time checker of annotations that pytest puts on train: shapes, dtypes and types."""

from beartype import BeartypeConf, beartype

# An int is a float here, as PEP 484 and every type checker have it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
