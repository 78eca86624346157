"""The paper's tables, trained and tested anew: what to train, what came out, and how it is shown beside what is published."""
