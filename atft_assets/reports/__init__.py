"""What a person reads: tables, tear sheets and pictures.

Here belongs the rendering of figures that other rooms computed, and the report of single features. Not here: the
figures of models (`scoring`).
"""
