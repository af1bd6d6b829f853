"""A certificate authority of a scenario's own, and certificates that change under the programs that use them."""
import os
import ssl
import subprocess


class Certificates:
    """`folder`/tls is a link to the newest certificate's folder: swapping it changes certificate and key in one go."""

    def __init__(self, folder):
        self._folder, self._issued = folder, 0
        self.ca, self._ca_key = os.path.join(folder, "ca.crt"), os.path.join(folder, "ca.key")
        self.cert, self.key = os.path.join(folder, "tls/tls.crt"), os.path.join(folder, "tls/tls.key")
        self._openssl("req", "-x509", *self._new_key(self._ca_key), "-days", "30", "-subj", "/CN=chaos-ca", "-out", self.ca)
        self.issue()

    def issue(self):
        """A new certificate takes the place of the one before."""
        self._issued += 1
        folder = os.path.join(self._folder, f"tls-{self._issued}")
        os.mkdir(folder)
        request, names = os.path.join(folder, "tls.csr"), os.path.join(folder, "names")
        with open(names, "w") as file:
            file.write("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._openssl("req", *self._new_key(os.path.join(folder, "tls.key")), "-subj", f"/CN=berth-{self._issued}", "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._ca_key, "-days", "20", "-extfile", names,
                      "-set_serial", str(self._issued), "-out", os.path.join(folder, "tls.crt"))  # fmt: skip
        link = os.path.join(self._folder, "next")
        os.symlink(folder, link)
        os.replace(link, os.path.join(self._folder, "tls"))

    def served(self, port):
        """Whether the port shows the newest certificate."""
        with open(self.cert) as file:
            return ssl.get_server_certificate(("127.0.0.1", port)).strip() == file.read().strip()

    def worker_flags(self):
        return ["--tls-cert", self.cert, "--tls-key", self.key, "--tls-ca", self.ca]

    def gateway_flags(self):
        return ["--ssl-certfile", self.cert, "--ssl-keyfile", self.key,
                "--worker-tls-ca", self.ca, "--worker-tls-cert", self.cert, "--worker-tls-key", self.key]  # fmt: skip

    @staticmethod
    def _new_key(path):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", path]

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
