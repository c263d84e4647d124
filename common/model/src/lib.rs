//! The nouns of Comber: names, facts, releases, rollouts, assignments, reports
