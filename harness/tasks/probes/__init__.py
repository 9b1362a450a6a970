"""SentEval's probe classifiers as functions of features and labels."""
