package node

import (
	"net/http"

	"github.com/tributary-es/tributary/internal/console"
)

// page is what a browser gets at /.
func (n *Node) page() http.Handler { return console.Handler() }
