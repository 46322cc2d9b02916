"""The figures of a report: what each one shows, as plain values, and how it is drawn on a canvas."""
