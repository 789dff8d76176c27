// SPDX-License-Identifier: Apache-2.0

package apiserver

import "net/http"

// connect finds the handler of a subresource that is not data but a connection.
func (s *Server) connect(c call) (func(http.ResponseWriter, *http.Request, call) error, bool) {
	return nil, false
}
