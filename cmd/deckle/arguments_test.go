package main

import (
	"regexp"
	"testing"

	"github.com/spf13/cobra"
)

// Every user of a machine can read the arguments of all processes (ps). So no option takes a secret: it names a file
// that has one, or the environment does.
func TestNoSecretInArguments(t *testing.T) {
	option := regexp.MustCompile(`(?m)^ +(?:-\w, |    )--([\w-]+)( \w+)?  `) // with the type of what it takes
	secret := regexp.MustCompile(`password|secret|token|credential|key`)
	file := regexp.MustCompile(`(^|-)(file|cert|ca)$|^tls-key$`)
	seen := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, o := range option.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			if seen++; secret.MatchString(o[1]) && !file.MatchString(o[1]) && o[2] != "" {
				t.Errorf("%s --%s takes a%s", cmd.CommandPath(), o[1], o[2])
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot())
	if seen < 50 {
		t.Errorf("only %d options were looked at", seen)
	}
}
