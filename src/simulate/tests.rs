//! Its figures, on traces that are drawn and on real ones.
