//! Planner and machine together under a virtual clock and a faulty network
