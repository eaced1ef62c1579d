"""Looking closer: two models on the same faces, labels that are likely wrong, other data, groups of people, bad pictures."""
