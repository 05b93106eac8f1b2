"""Command lines, as JSON on standard input, through the real gcloud; for each a line: exit code and what it says.

Run with the Python and the library of gcloud. It is imported once and forked for each command: a quarter of the time.
"""

import json
import os
import sys

import gcloud  # the program itself
import googlecloudsdk.gcloud_main  # noqa: F401 what it would import in each fork

for command in json.load(sys.stdin):
    read, write = os.pipe()
    if not os.fork():
        given, feed = os.pipe()
        os.write(feed, b'--password: "x"\n')
        os.close(feed)
        for here, there in ((given, 0), (write, 1), (write, 2)):
            os.dup2(here, there)
        sys.argv = ["gcloud", *command]
        code = 70
        try:
            gcloud.main()
        except SystemExit as left:
            code = left.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as output:
        said = output.read()
    print(json.dumps([os.waitstatus_to_exitcode(os.wait()[1]), said]))
