package kerberos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"deckle/integration/services"
)

const realm = "DECKLE.TEST"

// kdc is MIT's, with a realm of its own.
type kdc struct {
	*services.Process
	t    *testing.T
	dir  string
	env  []string
	conf string // krb5.conf
	addr string
}

// startKDC makes a realm and starts its KDC.
func startKDC(t *testing.T) *kdc {
	t.Helper()
	for _, name := range []string{"krb5kdc", "kdb5_util", "kadmin.local"} {
		if _, err := exec.LookPath(name); err != nil {
			need(t, &services.MissingError{Tool: name, For: "a KDC (Debian: krb5-kdc, krb5-admin-server)"})
		}
	}
	port, err := services.FreePort()
	must(t, err)
	k := &kdc{t: t, dir: t.TempDir(), addr: fmt.Sprintf("127.0.0.1:%d", port)}
	k.conf = k.write("krb5.conf", fmt.Sprintf(`[libdefaults]
 default_realm = %[1]s
 dns_lookup_kdc = false
 rdns = false
[realms]
 %[1]s = {
  kdc = %[2]s
 }
[domain_realm]
 localhost = %[1]s
`, realm, k.addr))
	profile := k.write("kdc.conf", fmt.Sprintf(`[kdcdefaults]
 kdc_listen = %[2]s
 kdc_tcp_listen = %[2]s
[realms]
 %[1]s = {
  database_name = %[3]s/principal
  key_stash_file = %[3]s/stash
  acl_file = %[3]s/acl
  max_life = 10h
 }
[logging]
 kdc = FILE:%[3]s/kdc.log
`, realm, k.addr, k.dir))
	k.env = []string{"KRB5_CONFIG=" + k.conf, "KRB5_KDC_PROFILE=" + profile}
	k.run("kdb5_util", "create", "-s", "-r", realm, "-P", "master of the test")
	k.start()
	t.Cleanup(func() { must(t, k.Kill()) })
	return k
}

// start starts the KDC, behind before if that is not empty.
func (k *kdc) start(before ...string) {
	k.t.Helper()
	k.Process = services.NewProcess("kdc", k.dir, k.env, append(before, "krb5kdc", "-n")...)
	must(k.t, k.Start())
	must(k.t, k.WaitPort(k.t.Context(), k.addr))
}

func (k *kdc) write(name, text string) (path string) {
	k.t.Helper()
	path = filepath.Join(k.dir, name)
	must(k.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (k *kdc) run(name string, args ...string) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), k.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// principal makes a principal with a new key.
func (k *kdc) principal(name string) {
	k.t.Helper()
	k.run("kadmin.local", "-q", "addprinc -randkey "+name)
}

// keytab writes a new key of a principal into a file; keytabs that were written before have the former one.
func (k *kdc) keytab(principal, file string) (path string) {
	k.t.Helper()
	path = filepath.Join(k.dir, file)
	must(k.t, os.RemoveAll(path))
	k.run("kadmin.local", "-q", "ktadd -k "+path+" "+principal)
	return path
}

// need skips the test where this machine lacks a tool, unless it may not be skipped.
func need(t *testing.T, err error) {
	t.Helper()
	if services.MaySkip(err) {
		t.Skipf("skipped: %v", err)
	}
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
