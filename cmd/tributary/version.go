package main

import (
	"fmt"
	"runtime"
)

// versionCmd prints the version.
type versionCmd struct{}

// Run prints the version.
func (c *versionCmd) Run(g *globals) error {
	v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	return g.print(v, func() { fmt.Fprintf(g.out, "tributary %s (%s, %s)\n", v["version"], v["go"], v["platform"]) })
}
