"""What crosses between the supervisor and its children: the channel, the messages, and the numbers that stand for
secret values."""
