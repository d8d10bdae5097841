"""Label Studio as the place where people answer a campaign: tasks out, annotations back, an ML backend beside it."""
