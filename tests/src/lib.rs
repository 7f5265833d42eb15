//! Helpers of the cross-crate scenarios: processes, free ports, temp folders, generated traces.
