"""Tables for the terminal."""


def text_table(rows: list[dict]) -> str:
    """Aligns rows in columns: text to the left, numbers to the right.

    Args:
        rows: List of dicts with the same keys, the headings; values are strings or ints. A column
            whose first value starts with a letter is text.

    Returns:
        String, one line for the headings and one for each row.
    """
    keys = list(rows[0])
    cells = [keys] + [[_text(row[key]) for key in keys] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(keys))]
    left = [_text(rows[0][key])[:1].isalpha() for key in keys]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if is_text else cell.rjust(width)
            for cell, width, is_text in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in cells
    )


def _text(value):
    return f"{value:,}" if isinstance(value, int) else str(value)
