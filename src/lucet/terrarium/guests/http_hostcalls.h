/* http_hostcalls.h: the name that programs for the original Terrarium know lucet_http.h by. */
#include "lucet_http.h"
