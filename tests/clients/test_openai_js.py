"""The openai client for JavaScript, with two places on the server."""
import os
import subprocess
import unittest

from server import ServerTest

HOME = os.environ["CLIENTS_HOME"]


@unittest.skipUnless(os.path.isdir(f"{HOME}/node_modules/openai"), "openai for JavaScript is not installed")
class OpenaiJs(ServerTest):
    options = ("--max-batch", "2")

    def test_client(self):
        words = ["node", "tests/clients/openai_client.mjs", HOME, self.server.url]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("all of it holds", done.stdout)
