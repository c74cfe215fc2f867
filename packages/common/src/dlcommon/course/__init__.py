"""The course: the plan's lessons, how they are run and checked, and what a learner has done of them."""
