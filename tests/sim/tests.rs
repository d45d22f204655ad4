//! Many seeds, and loads whose outcome is known.
