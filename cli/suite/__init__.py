"""The local suite: everything `make run` starts beside the services, each part stoppable on its own."""
