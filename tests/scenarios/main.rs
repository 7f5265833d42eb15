//! The scenarios: one binary, a module for each story.
