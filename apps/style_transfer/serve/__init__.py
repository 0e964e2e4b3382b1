"""A page and an HTTP API on one machine: ``python -m apps.style_transfer serve``.

``jobs`` is the bounded queue and its one worker, ``work`` what that does with a Stylizer, ``upload`` reads forms into
private folders, ``api`` is the application, ``guard`` what every request and answer passes through, and ``page/`` the
page: one HTML, its style and its script, from nowhere else. It needs the extra ``serve``.
"""
