/* A storage type for the test of vec/types.h: float32 arithmetic on numbers that lie in memory as float64, so that none
 * is rounded when it is stored. */
typedef struct {
    double number;
} element;

static inline float to_real(element x) { return (float)x.number; }
static inline element to_element(float x) { return (element){x}; }
