"""The learned update g_t, its encoded styles, and the file of its weights."""
