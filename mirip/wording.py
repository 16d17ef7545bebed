"""Numbers with what they count, as all messages write them."""


def counted(n: int, noun: str, form: str = "") -> str:
    """Return e.g. "1 row", "2 rows"; `form` is that of the number, "," for "2,000 rows"."""
    return f"{n:{form}} {noun}{'' if n == 1 else 's'}"


def size(n_bytes: float) -> str:
    """Return e.g. "205 MiB"."""
    units = ["B", "KiB", "MiB", "GiB"]
    while n_bytes >= 1024 and len(units) > 1:
        n_bytes /= 1024
        units.pop(0)
    unit = units[0]
    return f"{n_bytes:.0f} {unit}" if unit == "B" or n_bytes >= 100 else f"{n_bytes:.3g} {unit}"
