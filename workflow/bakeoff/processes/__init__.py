"""Processes that run foreign code, from outside: started afresh or forked, listened to, ended. It imports no torch."""
