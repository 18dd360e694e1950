"""The examples of README.md, as they stand there, with this server's address in place of the default."""
import contextlib
import io
import json
import re
import subprocess

from server import ServerTest


class Readme(ServerTest):
    def examples(self, language, marker):
        with open("README.md", encoding="utf-8") as f:
            blocks = re.findall(rf"^```{language}\n(.*?)^```$", f.read(), re.MULTILINE | re.DOTALL)
        found = [b.replace("http://127.0.0.1:8080", self.server.url) for b in blocks if marker in b]
        self.assertTrue(found)
        return found

    def test_curl(self):
        for example in self.examples("sh", "curl "):
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", example], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("Paris", json.loads(done.stdout)["choices"][0]["message"]["content"])

    def test_python(self):
        for example in self.examples("python", "openai"):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(example, "README.md", "exec"), {})
            self.assertGreater(len(out.getvalue().strip()), 10)
