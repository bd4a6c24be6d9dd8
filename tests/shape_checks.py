"""The type checker that the suite puts on every function of torchbank, by the option --jaxtyping-packages."""

from beartype import BeartypeConf, beartype

# As everywhere in Python, an int will do where a float is asked for.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
