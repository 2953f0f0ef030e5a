# Installs BUILD into PREFIX, emptied first: a file that is no longer installed must be missed.
file(REMOVE_RECURSE ${PREFIX})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX}
                OUTPUT_VARIABLE log RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the install failed (is everything built?):\n${log}")
endif()
file(GLOB_RECURSE strays ${PREFIX}/*_test* ${PREFIX}/*gtest* ${PREFIX}/*.cpp)
if(strays)
  message(FATAL_ERROR "these do not belong into an install: ${strays}")
endif()
