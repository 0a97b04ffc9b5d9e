"""What a person looks at: contact sheets of questions and clips, and one page about a data set."""
