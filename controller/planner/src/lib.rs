//! Pure rollout planner: what every host shall run next, and why not yet
